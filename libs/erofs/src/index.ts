export { ErofsError, type ErofsSource } from './source.js'
export { writeErofs } from './write.js'
