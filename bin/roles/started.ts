/** `role`, once it has started; one that cannot is closed. @throws what `start` throws */
export async function started<R extends { start(): Promise<void>; close(): Promise<void> }>(role: R): Promise<R> {
  try {
    await role.start()
  } catch (error) {
    await role.close()
    throw error
  }
  return role
}
