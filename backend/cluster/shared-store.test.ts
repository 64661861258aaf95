import { describeClusterStore } from '../store/cluster-store.contract.ts'
import { SharedStore } from './shared-store.contract.ts'

describeClusterStore('the store of the cluster rig', () => {
  const shared = new SharedStore(3)
  return {
    open: async owner => shared.open(owner),
    dispose: async () => {},
  }
})
