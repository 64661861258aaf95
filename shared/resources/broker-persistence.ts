import { z } from 'zod'
import { filledText, onOff, oneOf, volumeSize } from './field.ts'
import { volumeClaimSpec } from './volume-claim.ts'

/** The original refuses less. */
const SIZE_MIN = 100 * 1024 ** 2

const mode = oneOf(['All', 'None', 'Custom'])
const dynamic = z.strictObject({ mode: onOff().optional() }).optional()

/** What of retained messages, queues and the state store the original keeps on disk. */
export const persistence = z.strictObject({
  maxSize: volumeSize(SIZE_MIN, '100M'),
  persistentVolumeClaimSpec: volumeClaimSpec.optional(),
  encryption: z.strictObject({ mode: onOff().optional() }).optional(),
  retain: z
    .strictObject({ mode, retainSettings: z.strictObject({ topics: z.array(filledText()).optional(), dynamic }).optional() })
    .optional(),
  subscriberQueue: z
    .strictObject({
      mode,
      subscriberQueueSettings: z.strictObject({ subscriberClientIds: z.array(filledText()).optional(), dynamic }).optional(),
    })
    .optional(),
  stateStore: z
    .strictObject({
      mode,
      stateStoreSettings: z
        .strictObject({
          stateStoreResources: z
            .array(z.strictObject({ keyType: oneOf(['Pattern', 'String', 'Binary']), keys: z.array(filledText()) }))
            .optional(),
          dynamic,
        })
        .optional(),
    })
    .optional(),
})
