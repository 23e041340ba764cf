package process

const (
	ownMachine    = machineAArch64
	setAttributes = 274 // SYS_SCHED_SETATTR
)
