export { extractor } from './extractor.js'
