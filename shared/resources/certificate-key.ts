import { oneOf } from './field.ts'

/** How cert-manager is to make the private key of a certificate. */
export const keyAlgorithm = oneOf(['Ec256', 'Ec384', 'Ec521', 'Ed25519', 'Rsa2048', 'Rsa4096', 'Rsa8192'])
export const rotationPolicy = oneOf(['Always', 'Never'])
