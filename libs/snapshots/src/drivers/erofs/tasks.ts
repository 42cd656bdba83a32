import { writeErofsRoot } from './write-root.js'

export const tasks = { root: writeErofsRoot }
