import { defineConfig } from 'drizzle-kit';

/** `npx drizzle-kit generate --name <what>` writes the next migration; the processes apply them at start. */
export default defineConfig({
  dialect: 'postgresql',
  schema: ['./src/hub/*/tables.ts', './src/coordinator/pg-schema.ts', './src/coordinator/*/tables.ts'],
  out: './drizzle',
  schemaFilter: ['poolhub', 'coordinator'],
});
