/** Of OwnerMethod.Publish. */
export const PUBLISH_IS_REFUSABLE = 1
/** The publisher's Client Identifier follows: only with what was held or is sent again. */
export const PUBLISH_HAS_PUBLISHER = 2
