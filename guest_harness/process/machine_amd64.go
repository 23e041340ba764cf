package process

const (
	ownMachine    = machineAMD64
	setAttributes = 314 // SYS_SCHED_SETATTR
)
