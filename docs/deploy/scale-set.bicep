// A scale set whose VMs join Azure Pipelines by themselves. See README.md here.
//   az deployment group create -g agents -f scale-set.bicep -p imageId=… subnetId=… vaultName=contoso sshKey="$(cat ~/.ssh/id_ed25519.pub)"
param location string = resourceGroup().location
param name string = 'web'
param imageId string // of a gallery image version, or of the definition for the latest
param subnetId string
param vaultName string // of a vault in this resource group that holds the secret
param secretName string = 'azp-pat'
param sshKey string
param instances int = 2
@description('Each VM takes one job of the pool Default and boots anew from its image: one-job-one-vm.md.')
param oneJob bool = false
param size string = 'Standard_D2s_v5'
param imdsProfile string = '' // Metadata Security Protocol: the version of an inVMAccessControlProfile; '' = off. See README.md

// What this scale set joins (sources.userData must be on in the image's configuration).
var manyJobs = '''
azp-bootstrap:
  target:
    environment: {project: Shop, name: production, tags: [web]}
'''
var onlyOne = '''
azp-bootstrap:
  target:
    pool: {name: Default}
'''
// User data may not say that a VM leaves: whoever may write tags or user data must not end VMs. Custom data, for cloud-init:
var retire = '''
#cloud-config
write_files:
  - path: /etc/azp-bootstrap/conf.d/50-one-job.yaml
    content: |
      retire: {jobs: 1, then: reimage}
'''

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-agents'
  location: location
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource secret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' existing = {
  parent: vault
  name: secretName
}

// Key Vault Secrets User, on this one secret.
var secretsUser = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '4633458b-17de-408a-b874-0445c86b69e6')

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(secret.id, identity.id, secretsUser)
  scope: secret
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: secretsUser
  }
}

resource scaleSet 'Microsoft.Compute/virtualMachineScaleSets@2024-11-01' = {
  name: name
  location: location
  dependsOn: [mayRead]
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  sku: {
    name: size
    capacity: instances
  }
  properties: {
    orchestrationMode: 'Uniform'
    overprovision: false // a VM that is made only to be deleted would register for nothing
    upgradePolicy: {
      mode: 'Manual'
    }
    automaticRepairsPolicy: {
      enabled: true
      gracePeriod: 'PT30M' // as health.grace
      repairAction: 'Replace'
    }
    virtualMachineProfile: {
      userData: base64(oneJob ? onlyOne : manyJobs)
      securityProfile: {
        securityType: 'TrustedLaunch'
        uefiSettings: {
          secureBootEnabled: true
          vTpmEnabled: true
        }
        proxyAgentSettings: empty(imdsProfile) ? null : {
          enabled: true
          imds: {
            inVMAccessControlProfileReferenceId: imdsProfile
          }
          wireServer: {
            mode: 'Enforce'
          }
        }
      }
      storageProfile: {
        imageReference: {
          id: imageId
        }
        osDisk: {
          createOption: 'FromImage'
          managedDisk: {
            storageAccountType: 'Premium_LRS'
          }
        }
      }
      osProfile: {
        computerNamePrefix: name
        adminUsername: 'azureuser'
        customData: oneJob ? base64(retire) : null
        linuxConfiguration: {
          disablePasswordAuthentication: true
          ssh: {
            publicKeys: [
              {
                path: '/home/azureuser/.ssh/authorized_keys'
                keyData: sshKey
              }
            ]
          }
        }
      }
      networkProfile: {
        networkInterfaceConfigurations: [
          {
            name: 'nic'
            properties: {
              primary: true
              ipConfigurations: [
                {
                  name: 'ip'
                  properties: {
                    subnet: {
                      id: subnetId
                    }
                  }
                }
              ]
            }
          }
        ]
      }
      scheduledEventsProfile: {
        terminateNotificationProfile: {
          enable: true
          notBeforeTimeout: 'PT15M' // a running job is waited for up to this, less 15 s, and up to drain.timeout
        }
      }
      diagnosticsProfile: {
        bootDiagnostics: {
          enabled: true // the serial console shows each phase, and what failed
        }
      }
      extensionProfile: {
        extensions: [
          {
            name: 'health'
            properties: {
              publisher: 'Microsoft.ManagedServices'
              type: 'ApplicationHealthLinux'
              typeHandlerVersion: '2.0' // rich states
              autoUpgradeMinorVersion: true
              settings: {
                protocol: 'http'
                port: 8484
                requestPath: '/healthz'
                intervalInSeconds: 10
                numberOfProbes: 6 // one probe that meets a daemon being upgraded is no reason for a repair
                gracePeriod: 1800
              }
            }
          }
        ]
      }
    }
  }
}

// A VM may ask that a VM of this scale set is deleted or boots anew. Azure has no right for "this VM alone".
resource mayRetire 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (oneJob) {
  name: guid(resourceGroup().id, name, 'azp-bootstrap-retire')
  properties: {
    roleName: 'azp-bootstrap one job, one VM (${name})'
    description: 'Delete and reimage VMs of a scale set'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: [
          'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/delete'
          'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/reimage/action'
        ]
      }
    ]
  }
}

resource retires 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (oneJob) {
  name: guid(scaleSet.id, identity.id, 'azp-bootstrap-retire')
  scope: scaleSet
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: mayRetire.id
  }
}

output principalId string = identity.properties.principalId
output clientId string = identity.properties.clientId // credential.identity.clientId
