import { describeDriver } from '../../testing/index.js'

describeDriver('vfs', [
  {
    reason: 'a child is a copy of its root and stands on nothing',
    tests: [
      'counts of a snapshot only what was changed in it',
      'keeps a root open, and says where it is used, while a snapshot of it is mounted',
    ],
  },
  {
    reason: 'a bind mount does not know syncs of its own',
    tests: ['mounts a volatile snapshot so that no sync inside waits for the disk'],
  },
])
