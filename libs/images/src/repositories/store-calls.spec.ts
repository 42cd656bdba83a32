import { temporaryStore } from '@strata/store/testing'
import { storeCallsSuite } from '../testing/store-calls-suite.js'

storeCallsSuite('a folder', temporaryStore, { few: 10, many: 2_000 })
