/** Codes of CONNACK. */
export const ACCEPTED = 0
export const NOT_AUTHORIZED = 0x87
export const UNAVAILABLE = 0x88
/** The same in MQTT 3.1.1. */
export const UNAVAILABLE_311 = 3
