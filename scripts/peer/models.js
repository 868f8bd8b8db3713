// Checks each answer of a server, field by field, against the TypeScript models of Microsoft's own
// client library: every call that the library has for pools, agents, deployment groups, targets and
// environments is sent by the library; what it gave is written as a TypeScript literal of the type
// that the library declares for the call; and the compiler says which field the model lacks, which
// value has another type, and which member of an enumeration does not exist.
//
//   PAT=TOKEN NODE_EXTRA_CA_CERTS=ca.pem node models.js https://dev.azure.com/contoso
//
// The agents, the target and the resource that it asks for are those of peer-test's three boots, of
// which each runs a job. It disables and enables an agent, sets tags, and in the end removes all
// three: not while the job runs.
'use strict';
const assert = require('node:assert');
const path = require('node:path');
const azdev = require('azure-devops-node-api');
const T = require('azure-devops-node-api/interfaces/TaskAgentInterfaces');
const ts = require('typescript');

const answers = []; // {call, type, value}

// saw notes what a call gave; the compiler looks at it in the end.
function saw(call, type, value) {
    assert.ok(value !== null && value !== undefined, `${call} gave nothing`);
    answers.push({ call, type, value });
    return value;
}

// known checks the words of enumerations before the library reads them: one that it does not know
// becomes the member 0 there, if there is one.
function known(call, value, type) {
    if (Array.isArray(value)) return value.forEach((v) => known(call, v, type));
    if (value === null || typeof value !== 'object') return undefined;
    for (const [field, of] of Object.entries(type.fields ?? {})) {
        const v = value[field];
        if (v === undefined || v === null) continue;
        if (of.enumType && !of.isDictionary) {
            for (const word of [].concat(v)) {
                const words = String(word).split(',').map((w) => w.trim().toLowerCase());
                const names = Object.keys(of.enumType.enumValues).map((n) => n.toLowerCase());
                assert.ok(typeof word === 'number' || words.every((w) => names.includes(w)), `${call}: ${field} has no member ${word}`);
            }
        } else if (of.typeInfo) known(call, v, of.typeInfo);
    }
    return undefined;
}

// literal writes a value as TypeScript source. The models name one field otherwise than the wire
// and Microsoft's own agent do: oSDescription.
function literal(value) {
    if (value instanceof Date) {
        assert.ok(!Number.isNaN(value.getTime()), 'a date that is none');
        return `new Date(${JSON.stringify(value.toISOString())})`;
    }
    if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
    if (value === null || typeof value !== 'object') return JSON.stringify(value);
    const fields = Object.entries(value).map(([k, v]) => `${JSON.stringify(k === 'osDescription' ? 'oSDescription' : k)}: ${literal(v)}`);
    return `{ ${fields.join(', ')} }`;
}

// wrong compiles the answers and returns what the compiler says, by call.
function wrong(list) {
    const lines = list.map((a, i) => `export const a${i}: ${a.type} = ${literal(a.value)};`);
    const file = path.join(__dirname, 'answers.ts');
    const source = `import * as T from 'azure-devops-node-api/interfaces/TaskAgentInterfaces';\n${lines.join('\n')}\n`;
    const options = { strict: true, noEmit: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.CommonJS, moduleResolution: ts.ModuleResolutionKind.Node10 };
    const host = ts.createCompilerHost(options);
    const read = host.getSourceFile;
    host.getSourceFile = (name, ...rest) => (name === file ? ts.createSourceFile(name, source, options.target) : read.call(host, name, ...rest));
    const exists = host.fileExists;
    host.fileExists = (name) => name === file || exists.call(host, name);
    const program = ts.createProgram([file], options, host);
    return ts.getPreEmitDiagnostics(program).map((d) => {
        const at = d.file && d.file.fileName === file ? d.file.getLineAndCharacterOfPosition(d.start).line - 1 : -1;
        return `${at < 0 ? 'compiler' : list[at].call}: ${ts.flattenDiagnosticMessageText(d.messageText, ' ')}`;
    });
}

// mustNotice shows that the check finds something: each answer is changed in a way that the model
// does not allow, and the compiler has to say so.
function mustNotice() {
    const spoilt = [];
    for (const { call, type, value } of answers) {
        const one = Array.isArray(value) ? value[0] : value;
        if (one === undefined || typeof one !== 'object') continue;
        const variants = [{ ...one, somethingElse: 1 }, { ...one, id: 'seven' }];
        for (const [field, number] of [['status', 7], ['poolType', 9], ['type', 99]]) {
            if (typeof one[field] === 'number') variants.push({ ...one, [field]: number });
        }
        for (const [i, v] of variants.entries()) spoilt.push({ call: `${call} #${i}`, type, value: Array.isArray(value) ? [v] : v });
    }
    const found = new Set(wrong(spoilt).map((line) => line.slice(0, line.indexOf(': '))));
    const missed = spoilt.filter((s) => !found.has(s.call)).map((s) => s.call);
    assert.deepStrictEqual(missed, [], 'answers spoilt on purpose that the check let through');
    return spoilt.length;
}

async function main(url) {
    const connection = new azdev.WebApi(url, azdev.getPersonalAccessTokenHandler(process.env.PAT));
    const api = await connection.getTaskAgentApi();
    const { TypeInfo } = T;
    const format = api.formatResponse.bind(api);
    api.formatResponse = (data, type, collection) => {
        if (type) known('an answer', collection ? (data?.value ?? data) : data, type);
        return format(data, type, collection);
    };
    assert.throws(() => api.formatResponse({ type: 'toaster' }, TypeInfo.VirtualMachineResource, false), /no member toaster/);
    assert.throws(() => api.formatResponse({ assignedRequest: { result: 'bogus' } }, TypeInfo.TaskAgent, false), /no member bogus/);

    // Pools and agents
    const [pool] = saw('getAgentPools', 'T.TaskAgentPool[]', await api.getAgentPools('Default'));
    saw('getAgentPools (deployment)', 'T.TaskAgentPool[]', await api.getAgentPools(undefined, undefined, T.TaskAgentPoolType.Deployment));
    saw('getAgentPools (manage)', 'T.TaskAgentPool[]', await api.getAgentPools('Default', undefined, T.TaskAgentPoolType.Automation, T.TaskAgentPoolActionFilter.Manage));
    saw('getAgentPool', 'T.TaskAgentPool', await api.getAgentPool(pool.id));
    const [agent] = saw('getAgents', 'T.TaskAgent[]', await api.getAgents(pool.id, undefined, true, true));
    assert.ok(agent.assignedRequest.queueTime instanceof Date, 'the agent runs a job');
    saw('getAgent', 'T.TaskAgent', await api.getAgent(pool.id, agent.id, true, true));
    await assert.rejects(api.deleteAgent(pool.id, agent.id), (err) => err.statusCode === 400 && /running/.test(err.message));
    const off = saw('updateAgent (disable)', 'T.TaskAgent', await api.updateAgent({ id: agent.id, name: agent.name, enabled: false }, pool.id, agent.id));
    assert.strictEqual(off.enabled, false);
    const on = saw('updateAgent (enable)', 'T.TaskAgent', await api.updateAgent({ id: agent.id, name: agent.name, enabled: true }, pool.id, agent.id));
    assert.strictEqual(on.enabled, true);

    // Deployment groups and targets
    const [group] = saw('getDeploymentGroups', 'T.DeploymentGroup[]', await api.getDeploymentGroups('Shop', 'web-servers'));
    saw('getDeploymentGroups (manage)', 'T.DeploymentGroup[]', await api.getDeploymentGroups('Shop', 'web-servers', T.DeploymentGroupActionFilter.Manage));
    saw('getDeploymentGroup', 'T.DeploymentGroup', await api.getDeploymentGroup('Shop', group.id));
    const [target] = saw('getDeploymentTargets', 'T.DeploymentMachine[]', await api.getDeploymentTargets('Shop', group.id, undefined, undefined, undefined, T.DeploymentTargetExpands.Capabilities));
    saw('getDeploymentTarget', 'T.DeploymentMachine', await api.getDeploymentTarget('Shop', group.id, target.id, T.DeploymentTargetExpands.Capabilities));
    const [tagged] = saw('updateDeploymentTargets', 'T.DeploymentMachine[]', await api.updateDeploymentTargets([{ id: target.id, tags: ['web', 'blue'] }], 'Shop', group.id));
    assert.deepStrictEqual([...tagged.tags].sort(), ['blue', 'web']);

    // Environments; the library has no call for VM resources, but their model
    const [found] = saw('getEnvironments', 'T.EnvironmentInstance[]', await api.getEnvironments('Shop', 'production'));
    saw('getEnvironmentById', 'T.EnvironmentInstance', await api.getEnvironmentById('Shop', found.id, T.EnvironmentExpands.ResourceReferences));
    const machines = `${url}/Shop/_apis/pipelines/environments/${found.id}/providers/virtualmachines`;
    const version = 'api-version=7.1-preview.1';
    const model = (value) => api.formatResponse(value, { fields: { ...TypeInfo.VirtualMachineResource.fields, agent: { typeInfo: TypeInfo.TaskAgent } } }, true);
    const listed = await connection.rest.get(`${machines}?${version}`);
    const [vm] = saw('GET virtualmachines', 'T.VirtualMachineResource[]', model(listed.result));
    const behind = await connection.rest.get(`${machines}/pool?${version}`);
    saw('GET virtualmachines/pool', 'T.TaskAgentPool', api.formatResponse(behind.result, TypeInfo.TaskAgentPool, false));
    const patched = await connection.rest.update(`${machines}?${version}`, { id: vm.id, name: vm.name, tags: ['web', 'blue'], agent: { id: vm.agent.id } });
    saw('PATCH virtualmachines', 'T.VirtualMachineResource', api.formatResponse(patched.result, { fields: { ...TypeInfo.VirtualMachineResource.fields, agent: { typeInfo: TypeInfo.TaskAgent } } }, false));

    // And away, when the jobs have ended
    for (const id of [pool.id, group.pool.id, behind.result.id]) {
        for (let i = 0; (await api.getAgents(id, undefined, false, true)).some((a) => a.assignedRequest); i++) {
            assert.ok(i < 300, 'the job does not end');
            await new Promise((resolve) => setTimeout(resolve, 100));
        }
    }
    await api.deleteAgent(pool.id, agent.id);
    await api.deleteDeploymentTarget('Shop', group.id, target.id);
    assert.strictEqual((await connection.rest.del(`${machines}/${vm.id}?${version}`)).statusCode, 204);
    assert.deepStrictEqual(await api.getAgents(pool.id), []);
    assert.strictEqual(await api.getAgent(pool.id, agent.id), null, 'an agent that was removed'); // 404: null, by typed-rest-client
    assert.deepStrictEqual(await api.getDeploymentTargets('Shop', group.id), []);

    const said = wrong(answers);
    assert.deepStrictEqual(said, [], 'answers that the models do not allow');
    console.log(`${answers.length} answers fit the library's models; ${mustNotice()} spoilt ones were noticed`);
}

main(process.argv[2]).catch((err) => {
    console.error(err.message ?? err);
    process.exit(1);
});
