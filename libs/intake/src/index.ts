export { createIntake, DEFAULT_READERS, type Intake, type IntakeOptions } from './intake.js'
export {
  INTAKE_LIMITS,
  type IntakeLimits,
  type IntakeProgress,
  type Received,
  type ReceiveOptions,
} from './receive-options.js'
export type { ArchiveFile } from './sources/file-source.js'
export { bytesLeft } from './sources/taken-socket.js'
