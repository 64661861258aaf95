/**
 * All tasks of the worker threads by name. Input and output are values that pass by structured clone. A task is a function of a file of
 * its own beside the method that uses it, loaded when it is first called.
 */
export const TASKS = {
  x509: async () => (await import('../methods/x509-task.ts')).verifyChainTask,
  'check-password': async () => (await import('../methods/password-task.ts')).checkPasswordTask,
  'verify-jwt': async () => (await import('../methods/jwt-task.ts')).verifyJwtTask,
} as const

export type TaskName = keyof typeof TASKS
type TaskOf<N extends TaskName> = Awaited<ReturnType<(typeof TASKS)[N]>>
export type TaskInput<N extends TaskName> = Parameters<TaskOf<N>>[0]
export type TaskOutput<N extends TaskName> = Awaited<ReturnType<TaskOf<N>>>
