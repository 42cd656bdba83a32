export { storage } from './storage.js'
