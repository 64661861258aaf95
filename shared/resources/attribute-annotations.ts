/** Annotations of a ServiceAccount that are attributes of its clients; the rest of the key is the attribute's name. */
export const ATTRIBUTE_PREFIX = 'aio-broker-auth/'
/** Of an earlier preview. Where an account has an attribute under both, the present one counts. */
export const OLD_ATTRIBUTE_PREFIX = 'aio-mq-broker-auth/'
