import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** File of the program `name` beside the module at `url`: a source, or what `npm run build` made of it. */
export function programBeside(url: string, name: string): string {
  const own = fileURLToPath(url)
  return path.join(path.dirname(own), `${name}${path.extname(own)}`)
}
