#!/usr/bin/env node
'use strict';

// Stands for the released binary: writes down how it was called, and behaves
// as FAKE_* say.

const fs = require('node:fs');

const { FAKE_RECORD: record, FAKE_EXIT: status = '0', FAKE_WAIT: wait } = process.env;
const args = process.argv.slice(2);
const note = entry => fs.appendFileSync(record, JSON.stringify(entry) + '\n');

const secrets = args
  .filter(arg => arg.startsWith('--secret=') && arg.includes('src='))
  .map(arg => arg.split('src=')[1])
  .map(file => ({ value: fs.readFileSync(file, 'utf8'), mode: fs.statSync(file).mode & 0o777 }));
note({ args, env: process.env, secrets });

// What a build that was cut short leaves behind.
const state = process.env.DOCKER_BUILD_REMOTE_CACHE_STATE;
if (process.env.FAKE_STATE && args[0] !== 'save') fs.writeFileSync(state, '{}');

if (wait && args[0] !== 'save') {
  const alive = setInterval(() => {}, 1000);
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      note({ signal });
      if (signal === wait) {
        clearInterval(alive);
        process.exitCode = Number(status);
      }
    });
  }
  note({ ready: true, pid: process.pid });
} else {
  process.exitCode = Number(status);
}
