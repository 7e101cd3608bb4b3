import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** Fields that may carry a secret, wherever they turn up one level deep in a log line. */
const SECRET_FIELDS = ['session_token', 'api_key', 'token', 'authorization', 'password', 'secret'];

/**
 * The process's logger: one JSON line per event on standard output (file descriptor 1).
 * @param level least severe level to write
 * @param name which process speaks (`hub`, `worker`)
 */
export function createLogger(level: string, name: string): Logger {
  return pino({
    name,
    level,
    timestamp: pino.stdTimeFunctions.isoTime,
    base: { pid: process.pid },
    redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: '[secret]' },
  });
}
