import { describe, expect, it } from 'vitest'
import { defaultSeccomp } from '../seccomp/seccomp.js'
import { buildSpec, type SpecFacts } from './spec.js'

const facts: SpecFacts = {
  args: ['a'],
  env: ['A=1'],
  cwd: '/w',
  user: { uid: 0, gid: 0, additionalGids: [0], home: '/root' },
  hostname: 'h',
  network: 'none',
  readOnly: false,
  root: '/r',
  cgroupsPath: '/strata-n/i',
  seccomp: defaultSeccomp('x86_64', [], '6.1'),
  files: [{ source: '/f/hosts', destination: '/etc/hosts' }],
  thermal: ['/sys/t'],
}
const namespaces = (spec: ReturnType<typeof buildSpec>) => spec.linux.namespaces.map(({ type }) => type)

describe('the runtime spec', () => {
  it("has namespaces of its own, the network among them unless it is the host's", () => {
    expect(namespaces(buildSpec(facts))).toEqual(['mount', 'uts', 'pid', 'ipc', 'cgroup', 'network'])
    expect(namespaces(buildSpec({ ...facts, network: 'host' }))).not.toContain('network')
  })

  it('gives root the 14 capabilities, and others their bound alone; nobody inheritable or ambient ones', () => {
    const { capabilities } = buildSpec(facts).process
    expect(capabilities.bounding).toHaveLength(14)
    expect(Object.keys(capabilities)).toEqual(['bounding', 'effective', 'permitted'])
    expect(Object.keys(buildSpec({ ...facts, user: { ...facts.user, uid: 1 } }).process.capabilities)).toEqual([
      'bounding',
    ])
  })

  it('masks, mounts and limits as docker does', () => {
    const spec = buildSpec(facts)
    expect(spec.linux.maskedPaths).toEqual(
      expect.arrayContaining([
        '/proc/kcore',
        '/proc/keys',
        '/proc/interrupts',
        '/sys/firmware',
        '/sys/devices/virtual/powercap',
        '/sys/t',
      ]),
    )
    expect(spec.linux.readonlyPaths).toEqual(['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'])
    expect(spec.mounts.map(({ destination }) => destination)).toEqual([
      '/proc',
      '/dev',
      '/dev/pts',
      '/sys',
      '/sys/fs/cgroup',
      '/dev/mqueue',
      '/dev/shm',
      '/etc/hosts',
    ])
    expect(spec.mounts.find(({ destination }) => destination === '/sys')?.options).toContain('ro')
    expect(spec.linux.resources.devices).toEqual([{ allow: false, access: 'rwm' }])
    expect(spec.process).toMatchObject({ noNewPrivileges: false, terminal: false })
    expect(spec.process).not.toHaveProperty('rlimits')
  })
})
