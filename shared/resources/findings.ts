import { type FieldPath, FINDINGS_MAX, type ResourceDocument } from './resource-document.ts'

/** What is found out about one document. */
export class Findings {
  readonly document: ResourceDocument
  readonly faults: string[] = []
  readonly warnings: string[] = []

  constructor(document: ResourceDocument) {
    this.document = document
  }

  fault(path: FieldPath, message: string): void {
    if (this.faults.length < FINDINGS_MAX) this.faults.push(this.document.fault(path, message))
  }

  warn(path: FieldPath, message: string): void {
    if (this.warnings.length < FINDINGS_MAX) this.warnings.push(this.document.fault(path, message))
  }
}
