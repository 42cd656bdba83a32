export { HostsConfiguration } from './hosts/hosts-configuration.js'
export { RemoteRegistries } from './remote-registries.js'
export type { OnWait, RemoteRepository } from './remote-repository.js'
