import { describeDriver } from '../../testing/index.js'

describeDriver('erofs')
