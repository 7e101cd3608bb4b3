import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** Fields that may carry a secret, wherever they turn up one level deep in a log line. */
const SECRET_FIELDS = ['session_token', 'api_key', 'token', 'authorization', 'password', 'secret'];

/** ioredis hangs the command that failed on its error, and with it the password of an AUTH, or what a script was given. */
const REDIS_ARGUMENTS = ['err.command.args', 'err.*.command.args'];

/**
 * The process's logger: one JSON line per event.
 * @param level least severe level to write
 * @param name which process speaks (`hub`, `worker`)
 * @param destination standard output (file descriptor 1) without it
 */
export function createLogger(level: string, name: string, destination?: DestinationStream): Logger {
  const fields = SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]);
  const options = {
    name,
    level,
    timestamp: pino.stdTimeFunctions.isoTime,
    base: { pid: process.pid },
    redact: { paths: [...fields, ...REDIS_ARGUMENTS], censor: '[secret]' },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
