/** What an idle host keeps resident beside its guests' memory, which is all in shared memory files. */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Group } from './figure.js';
import { startHost } from './programs.js';

const TARGET_MIB = 120;
const SETTLE_MS = 2000;

/** `Name:  123 kB` lines of a file under /proc, in MiB. */
async function kilobytes(path: string): Promise<(name: string) => number> {
  const text = await readFile(path, 'utf8');
  return (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN) / 1024;
}

export const idleMemory: Group = {
  name: 'idle-memory',
  async measure({ quick }) {
    const host = await startHost('idle-host');
    try {
      await sleep(quick ? SETTLE_MS / 4 : SETTLE_MS);
      const status = await kilobytes(`/proc/${host.pid}/status`);
      const anonymous = status('RssAnon');
      const files = status('RssFile');
      const proportional = (await kilobytes(`/proc/${host.pid}/smaps_rollup`))('Pss_File');
      const value = anonymous + files;
      const note =
        `RssAnon ${anonymous.toFixed(1)} + RssFile ${files.toFixed(1)} (the program text of Node itself; ` +
        `its share of it where others run Node too: ${proportional.toFixed(1)}); a guest of 64 MiB is not in it`;
      const against = `bound: ${TARGET_MIB} MiB`;
      return [
        {
          name: 'idle-memory',
          value,
          unit: 'MiB',
          baseline: TARGET_MIB,
          ratio: value / TARGET_MIB,
          target: 1,
          against,
          note,
        },
      ];
    } finally {
      await host.stop();
    }
  },
};
