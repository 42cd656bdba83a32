export { createIntake, DEFAULT_READERS, type Intake } from './intake.js'
export {
  INTAKE_LIMITS,
  type IntakeLimits,
  type IntakeProgress,
  type Received,
  type ReceiveOptions,
} from './receive-options.js'

export { giveBack } from './sources/give-back.js'
export { bytesLeft } from './sources/taken-socket.js'
