/**
 * Attempts, refused ones included (spec state-store.md 15), as far as they came here. Those of one process share one: what it has counted must not go
 * back when one of its shards moves.
 */
export class KeyStoreCounters {
  insertions = 0
  modifications = 0
  deletions = 0
  retrievals = 0
  keynotifyRequests = 0
  /** One for each watcher of each change. */
  notifications = 0
  expirations = 0
  repeats = 0
  /** To requests that may come again: then they are executed again. */
  answersForgotten = 0
  /** KEYNOTIFY with KEEP and SINCE: went on without a gap; and not, so that the client has to read the key. */
  resumed = 0
  gaps = 0
}
