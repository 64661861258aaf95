import { startStandalone } from './broker-under-test.ts'
import { describeMqttJs } from './mqtt-js.contract.ts'

describeMqttJs('a standalone broker', startStandalone)
