import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { StrataError } from '@strata/base'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { RecordStore } from './lifecycle/record-store.js'
import type { LogOptions } from './log/types.js'
import { newId, World } from './testing/world.js'

let world: World
beforeAll(async () => {
  world = await World.make()
})
afterAll(async () => {
  expect(await world.end()).toEqual([])
})

describe('a container', () => {
  it('runs, tells its exit code and output, and leaves nothing', async () => {
    expect(await world.run(['sh', '-c', 'echo out; echo err >&2; exit 7'])).toEqual({
      code: 7,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    expect(world.leaks()).toEqual([])
  })

  it.each([
    [['/bin/no-such'], 'command_not_found', 127],
    [['no-such'], 'command_not_found', 127],
    [['/etc/not-executable'], 'command_not_executable', 126],
    [['/etc'], 'command_not_executable', 126],
  ])('%j ends as docker ends it', async (command, code, exit) => {
    const id = await world.claim(command)
    await expect(world.containers.launch(id)).rejects.toMatchObject({ code })
    await expect(world.containers.launch(id)).rejects.toMatchObject({ code })
    expect(await world.containers.wait(id)).toMatchObject({ code: exit })
    await world.containers.remove(id)
    expect(world.leaks()).toEqual([])
  })

  it('has the default capabilities, filter, namespaces and masked paths', async () => {
    const { stdout } = await world.run([
      'sh',
      '-c',
      'grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; head -c 1 /proc/kcore | wc -c; touch /proc/sys/x /sys/x 2>&1; mount -t tmpfs x /tmp 2>&1; cat /proc/self/cgroup | grep -v ":/$"; echo $$; ls /proc/self/fd',
    ])
    expect(stdout).toContain('CapEff:\t00000000a80425fb')
    expect(stdout).toContain('CapBnd:\t00000000a80425fb')
    expect(stdout).toContain('Seccomp:\t2')
    expect(stdout).toContain('touch: /sys/x: Read-only file system')
    expect(stdout).toMatch(/mount: .*(denied|not permitted)/)
    // Its first process is 1, and nothing of ours is open in it: 0, 1, 2 and the folder that ls
    // reads.
    expect(stdout).toMatch(/\n1\n0\n1\n2\n3\n$/)
  })

  it('finds the user, groups and home in its own root', async () => {
    const { stdout } = await world.run(['sh', '-c', 'id; echo $HOME; pwd; grep CapEff /proc/self/status'], {
      user: 'web',
      workdir: '/made/for it',
    })
    expect(stdout).toBe(
      'uid=1000(web) gid=1001(web) groups=50(staff),1001(web)\n/home/web\n/made/for it\nCapEff:\t0000000000000000\n',
    )
  })

  it('has hostname, hosts, resolv.conf and variables', async () => {
    const { stdout } = await world.run(
      [
        'sh',
        '-c',
        'hostname; cat /etc/hostname; echo $HOSTNAME $A $PATH; grep -c localhost /etc/hosts; ls -l /etc/resolv.conf | grep -c ^-',
      ],
      { hostname: 'box', env: ['A=b c'] },
    )
    expect(stdout).toBe('box\nbox\nbox b c /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n2\n1\n')
  })

  it('without a network has lo, up, and nothing else', async () => {
    const { stdout } = await world.run(['sh', '-c', 'ip -o -4 addr; ip -o link'], { network: 'none' })
    expect(stdout).toMatch(/^1: lo +inet 127\.0\.0\.1\/8/)
    expect(stdout).toContain('1: lo: <LOOPBACK,UP,LOWER_UP>')
    expect(stdout.split('\n').filter((line) => line.includes('UP,'))).toHaveLength(1)
  })

  it('is a machine to programs as docker makes it: ports, ping, the list of mounts, the own name', async () => {
    const { stdout } = await world.run(
      [
        'sh',
        '-c',
        'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range; readlink /etc/mtab; hostname -i; cat /proc/net/if_inet6',
      ],
      { hostname: 'box', user: 'web' },
    )
    expect(stdout).toMatch(/^0\n0\t2147483647\n\/proc\/mounts\n127\.0\.0\.1\n0{31}1 /)
  })

  it("with the host's network has that", async () => {
    const { stdout } = await world.run(['readlink', '/proc/self/ns/net'], { network: 'host' })
    expect(stdout.trim()).toBe(execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }).trim())
  })

  it('can have a read-only root', async () => {
    const { stdout } = await world.run(['sh', '-c', 'touch /x 2>&1 || echo no; touch /dev/shm/x && echo yes'], {
      readOnly: true,
    })
    expect(stdout).toMatch(/Read-only.*\nno\nyes\n/)
  })

  it('makes the folders of VOLUMEs', async () => {
    const id = newId()
    const claim = world.claimOf({ command: ['sh', '-c', 'ls -d /data/deep && touch /data/deep/x'] })
    const config = {
      User: '',
      ExposedPorts: [],
      Env: undefined,
      Entrypoint: undefined,
      Cmd: undefined,
      Volumes: ['/data/deep'],
      WorkingDir: '',
      Labels: {},
      StopSignal: '',
      Hostname: '',
    }
    await world.containers.claim(id, { ...claim, image: { ...claim.image, config } })
    await world.containers.launch(id)
    expect(await world.containers.wait(id)).toEqual({ code: 0 })
    await world.containers.remove(id)
  })

  it('runs in a cgroup of its own below the node', async () => {
    const id = await world.start(['sleep', '1000'])
    const { state } = world.containers.get(id)
    expect(state.status === 'running' && readFileSync(`/proc/${state.pid}/cgroup`, 'latin1')).toContain(
      `/strata-${world.options.node}/${id}`,
    )
    await world.containers.remove(id, { force: true })
    expect(world.leaks()).toEqual([])
  })
})

describe('a node', () => {
  it('may have folders with long names: no socket in them is bound by its path', async () => {
    const long = await World.make({ runFolder: `/run/strata-${'long-'.repeat(20)}${process.pid}` })
    expect(await long.run(['echo', 'x'])).toEqual({ code: 0, stdout: 'x\n', stderr: '' })
    expect(await long.end()).toEqual([])
  })

  it('may have a run folder with blanks', async () => {
    const odd = await World.make({ runFolder: `/run/strata a  b-${process.pid}` })
    const id = await odd.start(['sh', '-c', 'trap "exit 3" TERM; echo up; while :; do sleep 0.05; done'])
    for await (const chunk of odd.containers.logs(id, { follow: true })) if (chunk.bytes.includes('up')) break
    await odd.restart()
    expect(odd.containers.get(id).state.status).toBe('running')
    expect(await odd.containers.stop(id)).toEqual({ code: 3 })
    expect(await odd.end()).toEqual([])
  })

  it('may have a folder of any name: conmon ends a path at a colon, and refuses what is no ASCII', async () => {
    const folder = `/var/tmp/strata-a:b, "ä'\\-${process.pid}`
    const odd = await World.make({ folder })
    expect(await odd.run(['echo', 'x'])).toEqual({ code: 0, stdout: 'x\n', stderr: '' })
    expect(await odd.end()).toEqual([])
    rmSync(folder, { recursive: true })
  })

  it('has its own containers, beside another on the same machine', async () => {
    const other = await World.make()
    const [here, there] = [await world.start(['sleep', '1000']), await other.start(['sleep', '1000'])]
    await other.restart()
    await world.restart()
    expect(world.containers.list().map(({ id, state }) => [id, state.status])).toEqual([[here, 'running']])
    expect(other.containers.list().map(({ id, state }) => [id, state.status])).toEqual([[there, 'running']])
    await world.containers.remove(here, { force: true })
    expect(other.containers.get(there).state.status).toBe('running')
    expect(await other.end()).toEqual([])
  })
})

describe('signals', () => {
  it('stops by TERM where it is heard, and by KILL where it is not', async () => {
    const polite = await world.start(['sh', '-c', 'trap "exit 3" TERM; echo ready; while :; do sleep 0.05; done'])
    const deaf = await world.start(['sleep', '1000'])
    for await (const chunk of world.containers.logs(polite, { follow: true })) if (chunk.bytes.includes('ready')) break
    expect(await world.containers.stop(polite)).toEqual({ code: 3 })
    expect(await world.containers.stop(deaf, { timeoutSeconds: 0.2 })).toEqual({ code: 137 })
    expect(await world.containers.stop(deaf)).toEqual({ code: 137 })
    await expect(world.containers.kill(deaf)).rejects.toMatchObject({ code: 'container_not_running' })
    for (const id of [polite, deaf]) await world.containers.remove(id)
  })

  it('kills by name and number, and refuses what is no signal', async () => {
    const id = await world.start(['sleep', '1000'])
    await expect(world.containers.kill(id, 'NOPE')).rejects.toMatchObject({ code: 'bad_request' })
    await world.containers.kill(id, 'SIGKILL')
    expect(await world.containers.wait(id)).toEqual({ code: 137 })
    await world.containers.remove(id)
  })
})

describe('the registry', () => {
  it('refuses what is running, taken, removed or unknown', async () => {
    const { containers } = world
    const id = await world.start(['sleep', '1000'], {}, { name: 'one' })
    await expect(containers.remove(id)).rejects.toMatchObject({ code: 'container_running' })
    await expect(world.claim(['true'], {}, { name: 'one' })).rejects.toMatchObject({ code: 'container_exists' })
    expect(containers.find('one').id).toBe(id)
    expect(containers.find(id.slice(0, 10)).id).toBe(id)
    expect((await containers.claim(id, world.claimOf({ command: ['false'] }))).name).toBe('one')
    await containers.remove(id, { force: true })
    await containers.remove(id, { force: true })
    await expect(containers.claim(id, world.claimOf({ command: ['true'] }))).rejects.toMatchObject({
      code: 'container_not_found',
    })
    expect(() => containers.get(id)).toThrow('there is no container')
    await expect(containers.claim('x', world.claimOf({ command: ['true'] }))).rejects.toMatchObject({
      code: 'bad_request',
    })
    await expect(containers.claim(newId(), world.claimOf({}))).rejects.toMatchObject({ code: 'nothing_to_run' })
  })

  it('starts a number once, however often it is asked', async () => {
    const id = await world.claim(['sh', '-c', 'echo once'])
    await Promise.all([world.containers.launch(id), world.containers.launch(id), world.containers.launch(id)])
    await world.containers.wait(id)
    await world.containers.launch(id)
    expect((await world.output(id)).toString()).toBe('once\n')
    await world.containers.remove(id)
  })

  it('stops a launch that is cancelled before the runtime has it', async () => {
    const id = await world.claim(['sh', '-c', 'echo ran'])
    await expect(world.containers.launch(id, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'cancelled',
    })
    expect((await world.output(id)).toString()).toBe('')
    await world.containers.remove(id)
  })

  describe('a launch whose caller has lost it when its container was created', () => {
    const lost = new Error('another has it')
    const assertOwned = (): Promise<void> => Promise.reject(lost)

    it('starts nothing, leaves nothing, and is gone on with by who has it now', async () => {
      const id = await world.claim(['sh', '-c', 'echo ran'])
      await expect(world.containers.launch(id, { assertOwned })).rejects.toBe(lost)
      expect(world.containers.get(id).state).toEqual({ status: 'created' })
      expect(world.leaks()).toEqual([])
      await world.containers.launch(id)
      await world.containers.wait(id)
      expect((await world.output(id)).toString()).toBe('ran\n')
      await world.containers.remove(id)
    })

    it('records no failure, also of a launch that failed or was stopped before', async () => {
      const id = await world.claim(['/no/such/program'])
      const stopped = { assertOwned, signal: AbortSignal.abort(lost) }
      await expect(world.containers.launch(id, stopped)).rejects.toBe(lost)
      await expect(world.containers.launch(id, { assertOwned })).rejects.toBe(lost)
      expect(world.containers.get(id).state).toEqual({ status: 'created' })
      await expect(world.containers.launch(id)).rejects.toMatchObject({ code: 'command_not_found' })
      await world.containers.remove(id)
    })

    it('is told to stop by the same look that finds it its own', async () => {
      const id = await world.claim(['sh', '-c', 'echo ran'])
      const stop = new AbortController()
      const look = (): Promise<void> => Promise.resolve(stop.abort())
      const launched = world.containers.launch(id, { signal: stop.signal, assertOwned: look })
      await expect(launched).rejects.toMatchObject({ code: 'cancelled' })
      expect((await world.output(id)).toString()).toBe('')
      await world.containers.remove(id)
      expect(world.leaks()).toEqual([])
    })
  })

  it('removes an autoRemove container once its end and output were told', async () => {
    const id = await world.claim(['sh', '-c', 'echo seen'], {}, { autoRemove: true })
    const gone = new Promise<void>((resolve) =>
      world.containers.onChange((changed, record) => changed === id && !record && resolve()),
    )
    const output = world.output(id, { follow: true })
    const exit = world.containers.wait(id)
    await world.containers.launch(id)
    expect(await exit).toEqual({ code: 0 })
    expect((await output).toString()).toBe('seen\n')
    await gone
    expect(() => world.containers.get(id)).toThrow('there is no container')
    expect(world.leaks()).toEqual([])
  })

  it('keeps one with a foreground reader until that has come, however early its end was told', async () => {
    const id = await world.start(['echo', 'seen'], {}, { autoRemove: true, attached: true })
    const gone = new Promise<void>((resolve) =>
      world.containers.onChange((changed, record) => changed === id && !record && resolve()),
    )
    expect(await world.containers.wait(id)).toEqual({ code: 0 })
    // Another container's whole life: far longer than a removal takes.
    await world.run(['true'])
    expect((await world.output(id, { follow: true, foreground: true })).toString()).toBe('seen\n')
    await gone
  })

  it('refuses a second process for the node', async () => {
    const { Containers } = await import('./containers.js')
    await expect(Containers.open(world.options)).rejects.toMatchObject({ code: 'driver_unavailable' })
  })
})

describe('create and start apart', () => {
  const start = (number: number, job = `start ${number}`, attached = false) => ({ number, job, attached })
  const SAYS = ['sh', '-c', 'echo ran >> /ran; cat /ran; exit 3']
  const read = async (id: string, options: LogOptions = {}): Promise<string> =>
    (await world.output(id, options)).toString()

  it('one that was created waits for a start, also through restarts of the service, and leaves nothing', async () => {
    const id = await world.create(SAYS, { name: 'apart' })
    await world.restart()
    expect(world.containers.get(id)).toMatchObject({ name: 'apart', starts: 0, state: { status: 'created' } })
    expect(world.containers.get(id).job).toBeUndefined()
    expect(world.leaks()).toEqual([])
    expect(await read(id)).toBe('')
    await world.containers.giveUp(id, new StrataError('cancelled', 'not asked for'))
    expect(await world.containers.stop(id)).toEqual({ code: 0 })
    await expect(world.containers.kill(id)).rejects.toMatchObject({ code: 'container_not_running' })
    const end = world.containers.wait(id)
    expect(await world.containers.begin(id, start(1))).toBe('due')
    await world.containers.launch(id, { start: start(1) })
    expect(await end).toEqual({ code: 3 })
    expect(await read(id)).toBe('ran\n')
    await world.containers.remove(id)
    expect(world.leaks()).toEqual([])
  })

  it('one that has exited is started again: the root and the log go on, its reader gets the new run', async () => {
    const id = await world.create(SAYS)
    for (const number of [1, 2]) {
      await world.containers.launch(id, { start: start(number) })
      expect(await world.containers.wait(id)).toEqual({ code: 3 })
    }
    const { state, starts, idle } = world.containers.get(id)
    expect({ starts, idle, status: state.status }).toEqual({ starts: 2, idle: undefined, status: 'exited' })
    expect(await read(id)).toBe('ran\nran\nran\n')
    expect((await world.output(id, { foreground: true, follow: true })).toString()).toBe('ran\nran\n')
    // One that was launched by the request that created it is no other.
    const launched = await world.start(SAYS)
    await world.containers.wait(launched)
    await world.containers.launch(launched, { start: start(2) })
    await world.containers.wait(launched)
    expect(await read(launched)).toBe('ran\nran\nran\n')
    for (const one of [id, launched]) await world.containers.remove(one)
    expect(world.leaks()).toEqual([])
  })

  it('a foreground reader ends with its start, however slowly it reads, and has nothing of the next one', async () => {
    const id = await world.create([
      'sh',
      '-c',
      'if [ -e /again ]; then echo second; sleep 1000; fi; touch /again; seq 100000; echo first',
    ])
    await world.containers.launch(id, { start: start(1, 'a', true) })
    const reading = world.containers.logs(id, { foreground: true, follow: true })
    const first = await reading.next()
    const pieces = [first.done ? '' : first.value.bytes.toString()]
    await world.containers.wait(id)
    await world.containers.launch(id, { start: start(2) })
    for await (const { bytes } of world.containers.logs(id, { follow: true })) if (bytes.includes('second')) break
    for await (const { bytes } of reading) pieces.push(bytes.toString())
    const text = pieces.join('')
    expect(text.endsWith('\n100000\nfirst\n')).toBe(true)
    expect(text).not.toContain('second')
    await world.containers.remove(id, { force: true })
  })

  it('who waits, reads or stops while a start is under way is there for that start', async () => {
    const id = await world.create([
      'sh',
      '-c',
      'if [ -e /again ]; then echo two; exit 2; fi; touch /again; echo one; exit 1',
    ])
    const follow = { foreground: true, follow: true }
    await world.containers.launch(id, { start: start(1) })
    expect(await world.containers.wait(id)).toEqual({ code: 1 })
    await world.containers.begin(id, start(2))
    const [exit, output] = [world.containers.wait(id), read(id, follow)]
    await world.containers.launch(id, { start: start(2) })
    expect([await exit, await output]).toEqual([{ code: 2 }, 'two\n'])
    // It is withdrawn: the container is as it was, and that start has written nothing.
    await world.containers.begin(id, start(3))
    const [same, nothing] = [world.containers.wait(id), read(id, follow)]
    expect(await world.containers.stop(id)).toEqual({ code: 2 })
    await world.containers.giveUp(id, new StrataError('cancelled', 'over'), 'start 3')
    expect([await same, await nothing]).toEqual([{ code: 2 }, ''])
    expect([await read(id, follow), await read(id, { ...follow, tail: 99 })]).toEqual(['two\n', 'two\n'])
    await world.containers.remove(id)
  })

  it('a removal by force takes what a start before it in the line has brought up', async () => {
    const id = await world.create(['sleep', '1000'])
    const started = world.containers.launch(id, { start: start(1) })
    await world.containers.remove(id, { force: true })
    expect((await started).id).toBe(id)
    expect(() => world.containers.get(id)).toThrow('there is no container')
    expect(world.leaks()).toEqual([])
    const other = await world.create(['sleep', '1000'])
    const running = world.containers.launch(other, { start: start(1) })
    await expect(world.containers.remove(other)).rejects.toMatchObject({ code: 'container_running' })
    await running
    await world.containers.remove(other, { force: true })
  })

  it('a removal by force answers at once that somebody uses the root, has taken nothing, and can be asked again', async () => {
    const id = await world.create(SAYS)
    const { roots } = world.options
    const used = vi.spyOn(roots, 'assertUnused').mockImplementationOnce(() => {
      throw new StrataError('in_use', 'mounted at /mnt')
    })
    await expect(world.containers.remove(id, { force: true })).rejects.toMatchObject({ code: 'in_use' })
    used.mockRestore()
    // As if nobody had asked, also for the next service.
    await world.restart()
    await world.containers.launch(id, { start: start(1) })
    expect(await world.containers.wait(id)).toEqual({ code: 3 })
    // Whatever the refusal is called: only a container that runs is stopped and tried again.
    const refusal = new StrataError('container_running', 'it is mounted')
    const removal = vi.spyOn(roots, 'remove').mockRejectedValueOnce(refusal).mockRejectedValueOnce(refusal)
    await expect(world.containers.remove(id, { force: true })).rejects.toBe(refusal)
    expect(removal).toHaveBeenCalledTimes(1)
    removal.mockRestore()
    // Its root goes at the next start of the service: nobody may write into it until then.
    await expect(world.containers.begin(id, start(2))).rejects.toMatchObject({ code: 'container_not_found' })
    await expect(world.containers.launch(id, { start: start(2) })).rejects.toMatchObject({
      code: 'container_not_found',
    })
    await world.containers.remove(id, { force: true })
    expect(world.leaks()).toEqual([])
  })

  it('what is left of a removed container keeps no service from its start, and goes when it can', async () => {
    const own = await World.make()
    const id = await own.start(['true'])
    await own.containers.wait(id)
    const { roots } = own.options
    const removal = vi.spyOn(roots, 'remove').mockRejectedValue(new StrataError('in_use', 'mounted at /mnt'))
    await expect(own.containers.remove(id)).rejects.toMatchObject({ code: 'in_use' })
    await own.restart()
    expect(own.containers.list()).toEqual([])
    expect(own.warnings).toEqual([expect.stringContaining('mounted at /mnt')])
    removal.mockRestore()
    await own.restart()
    expect(await own.end()).toEqual([`warning ${own.warnings[0]}`])
  })

  it('who came to read a start that was withdrawn has not read the one before', async () => {
    const id = await world.create(['true'])
    await world.containers.launch(id, { start: start(1, 'a', true) })
    await world.containers.wait(id)
    await world.containers.begin(id, start(2, 'b', true))
    const reading = read(id, { foreground: true, follow: true })
    await world.containers.giveUp(id, new StrataError('cancelled', 'over'), 'b')
    expect(await reading).toBe('')
    // Its own reader may still come.
    expect(world.containers.isPrunable(id)).toBe(false)
    await world.containers.remove(id)
  })

  it('who waits for or reads a first start that is withdrawn is told so; who came before waits on', async () => {
    const id = await world.create(SAYS)
    const early = world.containers.wait(id)
    await world.containers.begin(id, start(1))
    const [exit, output] = [world.containers.wait(id), read(id, { foreground: true, follow: true })]
    const told = expect(exit).rejects.toMatchObject({ code: 'cancelled' })
    await world.containers.giveUp(id, new StrataError('cancelled', 'over'), 'start 1')
    await told
    expect(await output).toBe('')
    await world.containers.launch(id, { start: start(1, 'again') })
    expect(await early).toEqual({ code: 3 })
    await world.containers.remove(id)
  })

  it('a stop ends all requests of the start under way, and no later one', async () => {
    const id = await world.create(SAYS)
    for (const job of ['a', 'b', 'c']) expect(await world.containers.begin(id, start(1, job))).toBe('due')
    await world.containers.giveUp(id, new StrataError('cancelled', 'stopped'), 'a')
    expect(await world.containers.stop(id)).toEqual({ code: 0 })
    const isStopped = { code: 'cancelled', message: expect.stringContaining('stopped') as string }
    await expect(world.containers.begin(id, start(1, 'b'))).rejects.toMatchObject(isStopped)
    await expect(world.containers.launch(id, { start: start(1, 'c') })).rejects.toMatchObject(isStopped)
    expect(world.containers.get(id)).toMatchObject({ starts: 0, state: { status: 'created' } })
    expect(await world.containers.begin(id, start(1, 'd'))).toBe('due')
    await world.containers.launch(id, { start: start(1, 'd') })
    expect(await world.containers.wait(id)).toEqual({ code: 3 })
    await world.containers.remove(id)
  })

  it('is known to be free of starts, ends and removals, or not soon enough', async () => {
    const id = await world.create(['true'])
    const ended = Promise.withResolvers<undefined>()
    const { roots } = world.options
    const unmount = vi.spyOn(roots, 'unmount').mockImplementationOnce(async (container) => {
      await ended.promise
      await roots.unmount(container)
    })
    await world.containers.launch(id, { start: start(1) })
    await world.containers.wait(id)
    const patience = new AbortController()
    const free = world.containers.isFree(id, patience.signal)
    patience.abort()
    expect(await free).toBe(false)
    const later = world.containers.isFree(id, new AbortController().signal)
    // What was never begun is given up without a wait.
    expect(await world.containers.giveUp(id, new StrataError('cancelled', 'over'), 'start 2')).toBe(false)
    ended.resolve(undefined)
    expect(await later).toBe(true)
    unmount.mockRestore()
    await world.containers.remove(id)
  })

  it('a record that must outlive a loss of power is synced each time that it is replaced', async () => {
    const saves = vi.spyOn(RecordStore.prototype, 'save')
    try {
      const id = await world.create(['true'])
      for (const number of [1, 2]) {
        await world.containers.begin(id, start(number))
        await world.containers.launch(id, { start: start(number) })
        await world.containers.wait(id)
      }
      await world.containers.begin(id, start(3))
      await world.containers.giveUp(id, new StrataError('cancelled', 'over'), 'start 3')
      await world.containers.remove(id)
      const done = saves.mock.calls.map(([{ starts, state }, { durable }]) => [starts, state.status, durable])
      expect(done.length).toBeGreaterThan(8)
      expect(done.filter(([, , durable]) => !durable)).toEqual([])
    } finally {
      saves.mockRestore()
    }
  })

  it('a number starts one process, whoever asks, and however often', async () => {
    const id = await world.create(SAYS)
    await Promise.all(['a', 'b', 'a'].map((job) => world.containers.launch(id, { start: start(1, job) })))
    await world.containers.wait(id)
    await world.containers.launch(id, { start: start(1, 'a') })
    expect(await world.containers.begin(id, start(1, 'b'))).toBe('done')
    expect(await read(id)).toBe('ran\n')
    await world.containers.remove(id)
  })

  it('a start that is taken back leaves the container as it was, also an exited one', async () => {
    const id = await world.create(SAYS)
    const before = world.containers.get(id)
    const stopped = { signal: AbortSignal.abort() }
    await world.containers.begin(id, start(1))
    await expect(world.containers.launch(id, { start: start(1), ...stopped })).rejects.toMatchObject({
      code: 'cancelled',
    })
    expect(world.containers.get(id)).toMatchObject({ starts: 0, state: before.state })
    expect(world.containers.isPrunable(id)).toBe(true)
    await world.containers.launch(id, { start: start(1) })
    await world.containers.wait(id)
    const exited = world.containers.get(id)
    // Bound, and then given up by whoever saw that its request has ended.
    await world.containers.begin(id, start(2))
    expect(world.containers.isPrunable(id)).toBe(false)
    await world.containers.giveUp(id, new StrataError('node_unavailable', 'over'), 'another')
    expect(world.containers.get(id).job).toBe('start 2')
    await world.containers.giveUp(id, new StrataError('node_unavailable', 'over'), 'start 2')
    expect(world.containers.get(id)).toMatchObject({ starts: 1, state: exited.state })
    expect(await read(id)).toBe('ran\n')
    // Cancelled directly before its process would have run.
    expect(await read(id, { foreground: true, follow: true })).toBe('ran\n')
    const stop = new AbortController()
    const assertOwned = (): Promise<void> => Promise.resolve(stop.abort())
    await expect(
      world.containers.launch(id, { start: start(2, 'late', true), signal: stop.signal, assertOwned }),
    ).rejects.toMatchObject({ code: 'cancelled' })
    expect(world.containers.get(id)).toEqual({ ...exited, job: undefined })
    expect(await read(id, { foreground: true, follow: true })).toBe('ran\n')
    expect(world.containers.isPrunable(id)).toBe(true)
    await world.containers.remove(id)
    expect(world.leaks()).toEqual([])
  })

  it('a start that fails says so, and the next one may do better', async () => {
    const id = await world.create(['/bin/late'])
    await expect(world.containers.launch(id, { start: start(1) })).rejects.toMatchObject({ code: 'command_not_found' })
    await expect(world.containers.launch(id, { start: start(1) })).rejects.toMatchObject({ code: 'command_not_found' })
    expect(await world.containers.wait(id)).toMatchObject({ code: 127 })
    await expect(world.containers.launch(id, { start: start(2) })).rejects.toMatchObject({ code: 'command_not_found' })
    await world.containers.remove(id)
  })

  it('a container is not started while it is created or launched by another request, runs, or is removed', async () => {
    const [created, launched] = [
      await world.claim(['true'], {}, { startedApart: true, job: 'create' }),
      await world.claim(['sleep', '1000'], {}, { job: 'launch' }),
    ]
    for (const id of [created, launched]) expect(await world.containers.begin(id, start(1))).toBe('busy')
    await world.containers.launch(launched)
    await expect(world.containers.begin(launched, start(2))).rejects.toMatchObject({ code: 'container_running' })
    await expect(world.containers.launch(launched, { start: start(2) })).rejects.toMatchObject({
      code: 'container_running',
    })
    await world.containers.remove(launched, { force: true })
    // Whoever creates it gives up: nothing of it stays.
    await world.containers.giveUp(created, new StrataError('layer_missing', 'not made'), 'create')
    expect(() => world.containers.get(created)).toThrow('there is no container')
    await expect(world.containers.begin(created, start(1))).rejects.toMatchObject({ code: 'container_not_found' })
    const passing = await world.create(['true'], { autoRemove: true })
    await world.containers.launch(passing, { start: start(1) })
    await world.containers.wait(passing)
    await expect(world.containers.launch(passing, { start: start(2) })).rejects.toMatchObject({
      code: 'container_not_found',
    })
    expect(world.leaks()).toEqual([])
  })
})

describe('pruning', () => {
  it('takes only what has exited and nobody is owed', async () => {
    const own = await World.make({ collectMs: 10_000 })
    try {
      const waits = await own.create(['true'])
      const [created, running, owed, byItself] = [
        await own.claim(['true']),
        await own.claim(['sleep', '300']),
        await own.claim(['true'], {}, { attached: true }),
        await own.claim(['true'], {}, { autoRemove: true }),
      ]
      await own.containers.launch(running)
      await own.containers.launch(owed)
      await own.containers.launch(byItself)
      const exit = await own.containers.wait(owed)
      expect(exit.code).toBe(0)
      const pruned = async (id: string): Promise<boolean> => own.containers.prune(id)
      expect(await Promise.all([created, running, byItself, newId()].map(pruned))).toEqual([false, false, false, false])
      // The foreground reader that its maker announced may still come, until it has been waited for
      // long enough.
      const { state } = own.containers.get(owed)
      const ended = state.status === 'exited' ? Date.parse(state.finishedAt) : NaN
      const clock = vi.spyOn(Date, 'now').mockReturnValue(ended + 9_999)
      expect(own.containers.isPrunable(owed)).toBe(false)
      clock.mockReturnValue(ended + 10_001)
      expect(own.containers.isPrunable(owed)).toBe(true)

      // A launch that is asked for first has its turn first: what it starts is not removed.
      const launching = own.containers.launch(created)
      const pruning = pruned(created)
      await launching
      await own.containers.wait(created)
      await pruning
      expect(await Promise.all([owed, owed].map(pruned))).toEqual([true, false])
      clock.mockRestore()
      // As docker: what was created and never started goes too, unless somebody waits for its end.
      const waiting = own.containers.wait(waits)
      expect(own.containers.isPrunable(waits)).toBe(false)
      await own.containers.launch(waits, { start: { number: 1, job: 'start', attached: false } })
      await waiting
      expect(await pruned(await own.create(['true'], { autoRemove: true }))).toBe(true)
      // Whether it may go is asked last, and somebody may come for it meanwhile.
      const asked = await own.create(['true'])
      expect(await own.containers.prune(asked, () => Promise.resolve(false))).toBe(false)
      let release = (): void => undefined
      const comes = (): Promise<boolean> => {
        release = own.containers.hold(asked)
        return Promise.resolve(true)
      }
      expect(await own.containers.prune(asked, comes)).toBe(false)
      release()
      expect(await pruned(asked)).toBe(true)
      expect(own.containers.list().map(({ id }) => id)).not.toContain(owed)
      expect(own.containers.get(running).state.status).toBe('running')
      for (const { id } of own.containers.list()) await own.containers.remove(id, { force: true })
    } finally {
      expect(await own.end()).toEqual([])
    }
  })
})

it('a launch that nobody goes on with is given up, and only that', async () => {
  const [waiting, done] = [await world.claim(['true']), await world.claim(['true'])]
  const reason = new StrataError('node_unavailable', 'nobody asks for it any more')
  // The launch has its turn first.
  await Promise.all([world.containers.launch(done), world.containers.giveUp(done, reason)])
  expect(await world.containers.wait(done)).toEqual({ code: 0 })
  await world.containers.giveUp(waiting, reason)
  expect(await world.containers.wait(waiting)).toMatchObject({ code: 125, reason: reason.message })
  await expect(world.containers.launch(waiting)).rejects.toMatchObject({ code: 'node_unavailable' })
  await world.containers.giveUp(newId(), reason)
  for (const id of [waiting, done]) await world.containers.remove(id)
})
