import { z } from 'zod'
import { checked, filledText, oneOf, textMap } from './field.ts'
import { Refusal } from '../config/setting.ts'

const QUANTITY = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?$/

const quantity = checked(
  value =>
    (typeof value === 'number' && Number.isFinite(value)) || (typeof value === 'string' && QUANTITY.test(value))
      ? value
      : new Refusal('expected a quantity such as 10Gi or 500M'),
  { 'x-kubernetes-int-or-string': true },
)

const quantities = z.record(filledText(), quantity)

const source = { apiGroup: filledText().optional(), kind: filledText(), name: filledText() }

/** spec of a PersistentVolumeClaim, as Kubernetes has it. */
export const volumeClaimSpec = z.strictObject({
  volumeName: filledText().optional(),
  volumeMode: filledText().optional(),
  storageClassName: filledText().optional(),
  accessModes: z.array(oneOf(['ReadWriteOnce', 'ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOncePod'])).optional(),
  dataSource: z.strictObject(source).optional(),
  dataSourceRef: z.strictObject({ ...source, namespace: filledText().optional() }).optional(),
  resources: z
    .strictObject({
      limits: quantities.optional(),
      requests: quantities.optional(),
      claims: z.array(z.strictObject({ name: filledText() })).optional(),
    })
    .optional(),
  selector: z
    .strictObject({
      matchExpressions: z
        .array(
          z.strictObject({
            key: filledText(),
            operator: oneOf(['In', 'NotIn', 'Exists', 'DoesNotExist']),
            values: z.array(filledText()).optional(),
          }),
        )
        .optional(),
      matchLabels: textMap().optional(),
    })
    .optional(),
})
