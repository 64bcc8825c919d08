/** Where CONTROL memreport of a XenStore daemon goes. Only who is privileged at the store can ask for it. */
import { appendFileSync } from 'node:fs';

/**
 * @param file where to add the report, null for the log
 * @returns false where it cannot be written there
 */
export function writeReport(text: string, file: string | null, log: (line: string) => void): boolean {
  if (file === null) {
    for (const line of text.trimEnd().split('\n')) log(line);
    return true;
  }
  try {
    appendFileSync(file, text, { mode: 0o600 });
    return true;
  } catch (error) {
    log(`memreport: ${(error as Error).message}`);
    return false;
  }
}
