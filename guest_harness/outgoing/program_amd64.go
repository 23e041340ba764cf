package outgoing

const sysBPF = 321
