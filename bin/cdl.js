#!/usr/bin/env node
import('../dist/cli/main.js').catch((error) => {
  if (error?.code === 'ERR_MODULE_NOT_FOUND' && String(error.message).includes('dist/cli/main.js')) {
    process.stderr.write('cdl is not built yet; run: npm run build\n');
    process.exitCode = 70;
    return;
  }
  throw error;
});
