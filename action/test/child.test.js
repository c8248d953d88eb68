'use strict';

const assert = require('node:assert');
const { test } = require('node:test');

const { run } = require('../child');

// A bound that is never reached in a good run is proven with one that
// always is.
test('a program that outlives its limit is killed', async () => {
  const status = await run('sleep', ['600'], { env: process.env, limit: 1 });
  assert.strictEqual(status, 137);
});
