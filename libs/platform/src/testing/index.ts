export * from './raw-client.js'
