package outgoing

const sysBPF = 280
