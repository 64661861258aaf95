/** The metrics of one process in the Prometheus text format, and what its series are told apart by. */
export interface MetricsOf {
  readonly worker: string
  readonly text: string
}

/**
 * One text out of several: each family once, as the format wants it, with the series of all and a label `worker` to tell them apart. A
 * sum over it is what one process would have shown.
 */
export function mergeMetrics(parts: readonly MetricsOf[]): string {
  const families = new Map<string, { readonly head: string[]; readonly samples: string[] }>()
  for (const { worker, text } of parts) {
    let family: { readonly head: string[]; readonly samples: string[] } | null = null
    let isNew = false
    for (const line of text.split('\n')) {
      const help = /^# HELP (\S+)/.exec(line)
      if (help !== null) {
        const known = families.get(help[1]!)
        isNew = known === undefined
        family = known ?? { head: [], samples: [] }
        families.set(help[1]!, family)
      }
      if (family === null || line === '') continue
      if (!line.startsWith('#')) family.samples.push(labelled(line, worker))
      else if (isNew) family.head.push(line)
    }
  }
  return [...families.values()].map(({ head, samples }) => `${[...head, ...samples].join('\n')}\n`).join('\n')
}

/** `name{a="b"} 1` with one label more; a name holds neither a brace nor a space. */
function labelled(sample: string, worker: string): string {
  const at = sample.search(/[{ ]/)
  const rest = sample[at] === '{' ? sample.slice(at + 1) : `}${sample.slice(at)}`
  return `${sample.slice(0, at)}{worker="${worker}"${rest.startsWith('}') ? '' : ','}${rest}`
}
