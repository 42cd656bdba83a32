import { removeTree, treeUsage } from './tree.js'

/** Work on trees that keeps the disk busy for long, so it is done in a thread. */
export const tasks = { remove: removeTree, usage: treeUsage }
