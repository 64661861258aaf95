import { Findings } from './findings.ts'
import type { ResourceDocument } from './resource-document.ts'

export type ListenerRefs = ReadonlyMap<string, readonly string[]>

export function listenerRefs(_documents: readonly ResourceDocument[]): ListenerRefs {
  return new Map()
}

export function translate(document: ResourceDocument, _kind: string, _name: string, _refs: ListenerRefs): Findings {
  return new Findings(document)
}
