#!/bin/bash
echo "The stand-in agent needs no dependencies."
