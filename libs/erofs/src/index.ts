export { ErofsError, type ErofsDevice, type ErofsSource } from './source.js'
export { writeErofs, type ErofsImage } from './write.js'
