export { createIntake, DEFAULT_READERS, type Intake } from './intake.js'
export {
  INTAKE_LIMITS,
  type IntakeLimits,
  type IntakeProgress,
  type Received,
  type ReceiveOptions,
} from './receive-options.js'

export { bytesLeft } from './sources/taken-socket.js'
