import { removeTree, treeUsage } from './tree.js'

/** What is done to a tree in a thread, because it keeps the disk busy for long. */
export const tasks = { remove: removeTree, usage: treeUsage }
