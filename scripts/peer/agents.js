// Lists, with Microsoft's own client library, what stands on a server after three boots: the pool's
// agents, the deployment group's targets, the environment's resources.
//
//   PAT=TOKEN NODE_EXTRA_CA_CERTS=ca.pem node agents.js https://dev.azure.com/contoso
'use strict';
const assert = require('node:assert');
const azdev = require('azure-devops-node-api');

async function main(url) {
    const connection = new azdev.WebApi(url, azdev.getPersonalAccessTokenHandler(process.env.PAT));
    const user = (await connection.connect()).authenticatedUser;
    console.log(`signed in as ${user.providerDisplayName}`);
    const api = await connection.getTaskAgentApi();

    const [pool] = await api.getAgentPools('Default');
    const agents = await api.getAgents(pool.id, undefined, true);
    console.log('pool Default:', agents.map((a) => [a.id, a.name, a.version]));
    assert.deepStrictEqual(agents.map((a) => a.name), ['web-000001']);
    assert.strictEqual(agents[0].status, 2, 'the agent is not online'); // TaskAgentStatus.Online
    assert.match(agents[0].systemCapabilities.AZP_BOOTSTRAP_INSTANCE_ID, /^5c7a1b1e-/);

    const [group] = await api.getDeploymentGroups('Shop', 'web-servers');
    const targets = await api.getDeploymentTargets('Shop', group.id);
    console.log('deployment group web-servers:', targets.map((t) => [t.id, t.agent.name, t.tags]));
    assert.deepStrictEqual(targets.map((t) => [t.agent.name, t.tags]), [['web-000001', ['web']]]);

    const [found] = await api.getEnvironments('Shop', 'production');
    const environment = await api.getEnvironmentById('Shop', found.id, 1); // EnvironmentExpands.ResourceReferences
    console.log('environment production:', environment.resources.map((r) => [r.id, r.name, r.tags]));
    assert.deepStrictEqual(environment.resources.map((r) => [r.name, r.tags]), [['web-000001', ['web', 'westeurope']]]);
    const machines = await connection.rest.get(`${url}/Shop/_apis/pipelines/environments/${found.id}/providers/virtualmachines?api-version=7.1-preview`);
    assert.deepStrictEqual(machines.result.value.map((m) => m.agent.status), ['online']);
}

main(process.argv[2]).catch((err) => {
    console.error(err);
    process.exit(1);
});
