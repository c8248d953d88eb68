'use strict';

// Finds the program: one that is named, the released one of this action's
// version in the runner's tool cache, or that release downloaded. The release
// commit pins the SHA-256 of each binary, so that what runs is what was
// released, whoever answered.

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { Readable, Transform } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const timers = require('node:timers/promises');
const zlib = require('node:zlib');

const { program } = require('./commandline');

const repository = 'docker-build-remote-cache/docker-build-remote-cache';
const publicServer = 'https://github.com';

const downloadTimeout = 5 * 60_000; // of one try, in ms
const pauses = [1_000, 5_000]; // between tries, in ms

// findBinary returns the path of the program. release is what release.json
// holds.
async function findBinary(env, release, log, options = {}) {
  const named = (env.INPUT_BINARY ?? '').trim() || env.DOCKER_BUILD_REMOTE_CACHE_BINARY;
  if (named) return named;

  if (!release.version) {
    throw new Error('this version of the action names no release: use a released one, as in @v1, or give the input binary');
  }
  const platform = platformName();
  const sha256 = release.sha256[platform];
  if (!sha256) throw new Error(`release ${release.version} has no binary for ${platform}`);

  const folder = path.join(env.RUNNER_TOOL_CACHE || os.tmpdir(), program, release.version);
  const file = path.join(folder, os.arch(), program + (process.platform === 'win32' ? '.exe' : ''));
  const complete = path.join(folder, `${os.arch()}.complete`); // as @actions/tool-cache marks it
  if (fs.existsSync(complete) && fs.existsSync(file)) {
    // Jobs of others may have written to the cache of a self-hosted runner.
    if ((await digestOf(file)) === sha256) return file;
    log(`${file} is not what was released: downloading it again`);
  }
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}`;
  try {
    const from = await download(addresses(env, release.version, platform, options.servers), partial, sha256, options);
    log(`downloaded ${from}`);
    fs.chmodSync(partial, 0o755);
    fs.renameSync(partial, file); // jobs at once may download; each sees a whole file
    fs.writeFileSync(complete, '');
  } finally {
    fs.rmSync(partial, { force: true });
  }
  return file;
}

function platformName() {
  const system = { win32: 'windows' }[process.platform] ?? process.platform;
  const architecture = { x64: 'amd64' }[os.arch()] ?? os.arch();
  return `${system}_${architecture}`;
}

// addresses of the release: beside the action's own repository on this
// server, else on github.com, from where an Enterprise Server may mirror or
// connect actions.
function addresses(env, version, platform, servers) {
  const own = env.GITHUB_SERVER_URL || publicServer;
  const name = env.GITHUB_ACTION_REPOSITORY || repository;
  const file = `releases/download/v${version}/${program}_${platform}.gz`;
  const all = (servers ?? [own, publicServer]).map(server => `${server}/${name}/${file}`);
  return [...new Set(all)];
}

// download writes the unpacked binary to file and returns the address that
// had it. A server without the file is passed over, one in trouble is asked
// again; a wrong checksum is the end.
async function download(urls, file, sha256, { pause = pauses } = {}) {
  useProxy();
  let last;
  for (const url of urls) {
    for (let attempt = 0; attempt <= pause.length; attempt++) {
      if (attempt > 0) await timers.setTimeout(pause[attempt - 1]);
      try {
        const got = await fetchBinary(url, file);
        if (got !== sha256) {
          throw Object.assign(new Error(`its SHA-256 is ${got}, and ${sha256} was released`), { final: true });
        }
        return url;
      } catch (err) {
        last = new Error(`download ${url}: ${err.cause?.message ?? err.message}`);
        if (err.final) throw last;
        if (err.absent) break;
      }
    }
  }
  throw last;
}

// fetchBinary returns the SHA-256 of what it wrote.
async function fetchBinary(url, file) {
  const response = await fetch(url, { signal: AbortSignal.timeout(downloadTimeout) });
  if (!response.ok) {
    await response.body?.cancel();
    const absent = response.status >= 400 && response.status < 500 && response.status !== 408 && response.status !== 429;
    throw Object.assign(new Error(`the server answers ${response.status}`), { absent });
  }
  const hash = crypto.createHash('sha256');
  const hashing = new Transform({
    transform(chunk, _, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  await pipeline(Readable.fromWeb(response.body), zlib.createGunzip(), hashing, fs.createWriteStream(file));
  return hash.digest('hex');
}

async function digestOf(file) {
  const hash = crypto.createHash('sha256');
  await pipeline(fs.createReadStream(file), hash);
  return hash.digest('hex');
}

// useProxy makes fetch heed HTTPS_PROXY and NO_PROXY where Node can (24.14),
// as runners behind a proxy set them for their jobs.
function useProxy() {
  http.setGlobalProxyFromEnv?.();
}

module.exports = { addresses, findBinary, platformName };
