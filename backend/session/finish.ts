import type { Engine } from '../engine.ts'
import { Record, writeNumbered } from '../shard/records.ts'
import type { Delivery } from './delivery.ts'
import type { Session } from './session.ts'

/** A delivery is over: acknowledged, dropped or expired. Its identifier, if any, was freed by the caller. */
export function finish(engine: Engine, session: Session, delivery: Delivery): void {
  engine.letGo(delivery.message)
  if (!session.isJournalled || engine.shards[session.shard]!.withdraw(delivery)) return
  writeNumbered(engine.journal.writer(session.shard), Record.Done, session.number, delivery.sequence)
}
