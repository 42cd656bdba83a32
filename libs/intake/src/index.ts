export {
  createIntake,
  DEFAULT_READERS,
  INTAKE_LIMITS,
  type Intake,
  type IntakeLimits,
  type IntakeOptions,
  type IntakeProgress,
  type Received,
  type ReceiveOptions,
} from './intake.js'
export type { ArchiveFile } from './file-mouth.js'
export { bytesLeft } from './taken-socket.js'
