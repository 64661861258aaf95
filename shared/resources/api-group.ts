/** Group of the four kinds, in files and in the Kubernetes API. */
export const API_GROUP = 'mqttbroker.iotoperations.azure.com'
/** The version that is written today. */
export const API_VERSION = `${API_GROUP}/v1`
