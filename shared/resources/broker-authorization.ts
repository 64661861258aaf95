import { z } from 'zod'
import { oneOf, onOff, resourceSchema, text, textMap, wholeNumber } from './field.ts'

const principals = z.strictObject({
  attributes: z.array(textMap()).optional(),
  clientIds: z.array(text()).optional(),
  usernames: z.array(text()).optional(),
})

const brokerResource = z.strictObject({
  method: oneOf(['Connect', 'Publish', 'Subscribe']),
  clientIds: z.array(text()).optional(),
  topics: z.array(text()).optional(),
})

const stateStoreResource = z.strictObject({
  method: oneOf(['Read', 'Write', 'ReadWrite']),
  keyType: oneOf(['Pattern', 'String', 'Binary']).optional(),
  keys: z.array(text()),
})

const rule = z.strictObject({
  principals,
  brokerResources: z.array(brokerResource),
  stateStoreResources: z.array(stateStoreResource).optional(),
  /** Extension: Deny wins over whatever allows. */
  effect: oneOf(['Allow', 'Deny']).optional(),
})

export const brokerAuthorizationSchema = resourceSchema(
  z.strictObject({
    authorizationPolicies: z.strictObject({
      cache: onOff().optional(),
      rules: z.array(rule).optional(),
      /** Extension: what an update does to the clients of the ports that use it. Default: Disconnect. */
      onUpdate: oneOf(['Disconnect', 'Reevaluate']).optional(),
      /** Extension: over how long the disconnects are spread. Default: 5. */
      disconnectWithinSeconds: wholeNumber(0, 3_600).optional(),
      /** Extension: MQTT 3.1.1 cannot be told that a PUBLISH was refused. Default: Acknowledge. */
      refusedPublish311: oneOf(['Acknowledge', 'Disconnect']).optional(),
    }),
  }),
)

export type BrokerAuthorizationSpec = z.infer<typeof brokerAuthorizationSchema>['spec']
export type AuthorizationPolicies = BrokerAuthorizationSpec['authorizationPolicies']
export type AuthorizationRule = z.infer<typeof rule>
