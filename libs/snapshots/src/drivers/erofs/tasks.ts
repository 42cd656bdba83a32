import { writeErofsRoot } from './write-root.js'

/** What the driver does in a thread. */
export const tasks = { root: writeErofsRoot }
