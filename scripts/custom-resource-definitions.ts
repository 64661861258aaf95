/** Writes deploy/crds from the schemas of the resources. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { customResourceDefinitions } from '#shared/resources/custom-resource-definition.ts'

const crds = new URL('../deploy/crds/', import.meta.url)
mkdirSync(crds, { recursive: true })
for (const [file, text] of customResourceDefinitions()) writeFileSync(new URL(file, crds), text)
