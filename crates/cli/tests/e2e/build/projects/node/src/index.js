const ms = require('ms');

const builtBy = 'nobody';

const name = process.argv[2] || 'world';
if (name !== '--health') {
  console.log(`hello ${name} (${ms('2 days')}) from node, built by ${builtBy}`);
}
